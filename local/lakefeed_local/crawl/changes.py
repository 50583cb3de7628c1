"""What a crawl changed in the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Changes:
    """Names of tables, and numbers of partitions, that a crawl changed."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    partitions_added: int = 0
    partitions_updated: int = 0

    def counts(self) -> dict[str, int]:
        """For GetCrawlerMetrics."""
        return {"TablesCreated": len(self.created), "TablesUpdated": len(self.updated), "TablesDeleted": 0}

    def summary(self) -> dict[str, Any]:
        """For ListCrawls, in the form that Glue gives it."""
        tables = {"ADD": self.created, "UPDATE": self.updated}
        partitions = {"ADD": self.partitions_added, "UPDATE": self.partitions_updated}
        kinds = {
            "TABLE": {
                action: {"Details": {"names": names}, "Count": len(names)}
                for action, names in tables.items()
                if names
            },
            "PARTITION": {action: {"Count": count} for action, count in partitions.items() if count},
        }
        return {kind: actions for kind, actions in kinds.items() if actions}
