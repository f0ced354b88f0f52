"""What a MODEL's options hold of an injection, and of one sampling run."""

from __future__ import annotations

KEY = "aai_injection"
"""Under it a MODEL's transformer options hold its Edit or Reweight, and its wrappers are known by it."""
BLENDING = "aai_blending"
"""Under it the options of one sampling run hold its BlendRun, where it has one."""
HEATMAP = "aai_heatmap"
"""Under it a MODEL's transformer options hold the Heatmap that its sampling fills."""
LOOKED = "aai_looked"
"""Under it those of one sampling run hold the conditionings' uuids that have told, since the guider was last
asked, where their words look and what they change."""
NEGATIVE = "aai_negative"
"""Under it those of one sampling run hold the negative conditionings' uuids."""
TOLD = "aai_told"
"""Under it the options of one sampling run hold {the conditioning's uuid: its reads}."""
