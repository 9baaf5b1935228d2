"""The main job: a table to a run folder, with a trained and evaluated model."""
