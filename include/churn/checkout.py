"""Where the project is on this machine."""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
"""The folder with the product, its locks and its local data."""
