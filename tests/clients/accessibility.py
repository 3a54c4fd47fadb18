"""
What the programs on a display show, as their accessibility interfaces tell it: one JSON document on standard output,
`{"role", "name", "description", "text", "x", "y", "width", "height", "children"}`, nested; only what is showing.
Positions are in the programs' own pixels. Needs Debian's gir1.2-atspi-2.0 and python3-gi.
"""

import json
import sys
from typing import Any

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402


def described(node: Atspi.Accessible) -> dict[str, Any] | None:
    """An element with all below it; None if it doesn't show, or is gone by now."""
    try:
        if node is None or not node.get_state_set().contains(Atspi.StateType.SHOWING):
            return None
        bounds = node.get_extents(Atspi.CoordType.SCREEN)
        is_text = "Text" in node.get_interfaces()
        children = [node.get_child_at_index(index) for index in range(node.get_child_count())]
        return {
            "role": node.get_role_name(),
            "name": node.get_name() or "",
            "description": node.get_description() or "",
            "text": Atspi.Text.get_text(node, 0, -1) if is_text else "",
            "x": bounds.x,
            "y": bounds.y,
            "width": bounds.width,
            "height": bounds.height,
            "children": [child for child in map(described, children) if child],
        }
    except GLib.Error:
        return None


desktop = Atspi.get_desktop(0)
programs = [desktop.get_child_at_index(index) for index in range(desktop.get_child_count())]
json.dump([program for program in map(described, programs) if program], sys.stdout)
