"""The error of an archive that holds other things than backups."""

from dynamo_core.errors import BadParameter

NOT_A_BACKUP = BadParameter
"""What should be a manifest or an id is not one."""
