"""Recipes that train the organisms and their dictionaries."""
