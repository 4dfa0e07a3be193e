"""Measurements of the organisms, and the cards and records written from them."""
