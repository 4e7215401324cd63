"""The stock recommenders: one file holds an arm's configuration and its model."""
