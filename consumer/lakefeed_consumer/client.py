"""What aiokafka's client leaves out, added to a consumer's client.

aiokafka 0.14 reads only the partitions' codes of an OffsetFetch answer. Since version 2 a request that failed
as a whole, such as one to a coordinator that has moved, has a code of its own and no partitions: without a
look at it, no answer is taken for no commit.
"""

from __future__ import annotations

from typing import Any

from aiokafka.errors import NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest


class CheckedClient:
    """Stands before the requests of one aiokafka client.

    Args:
        client: an `AIOKafkaClient`, which from now on sends through this.
    """

    def __init__(self, client: Any) -> None:
        self._forward = client.send
        client.send = self.send

    async def send(self, node: Any, request: Any, **options: Any) -> Any:
        """Send a request to a node, and return its answer.

        Raises:
            KafkaError: the node cannot be reached, or answers that the request failed.
        """
        answer = await self._forward(node, request, **options)
        if isinstance(request, OffsetFetchRequest):
            _check_offset_fetch(answer)
        return answer


def _check_offset_fetch(answer: Any) -> None:
    error = for_code(getattr(answer, "error_code", NoError.errno))  # version 1 has none
    if error is not NoError:
        raise error
    for topic, partitions in answer.topics:
        # aiokafka passes over this one; it raises all other codes.
        if any(code == UnknownTopicOrPartitionError.errno for *_, code in partitions):
            raise UnknownTopicOrPartitionError(topic)
