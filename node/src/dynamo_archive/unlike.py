"""What is raised where an archive holds other things than backups."""

from dynamo_core.errors import BadParameter

NOT_A_BACKUP = BadParameter
"""A manifest, or an id, that is none."""
