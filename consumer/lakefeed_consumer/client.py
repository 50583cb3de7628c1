"""What aiokafka's client leaves out, added to a consumer's client.

aiokafka 0.14 reads only the partitions' codes of an OffsetFetch answer. Since version 2 a request that failed
as a whole, such as one to a coordinator that has moved, has a code of its own and no partitions: without a
look at it, no answer is taken for no commit. And where a log no longer has the offset that is read next,
aiokafka continues at the log's start and reports it to no one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import NoError, OffsetOutOfRangeError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

OutOfRange = Callable[[TopicPartition, int], Awaitable[None]]


class CheckedClient:
    """Stands before the requests of one aiokafka client.

    Args:
        client: an `AIOKafkaClient`, which from now on sends through this.
        out_of_range: called with a partition and the offset that was asked for when its log does not have it,
            before aiokafka takes another. If it raises a KafkaError, aiokafka fetches again.
    """

    def __init__(self, client: Any, out_of_range: OutOfRange) -> None:
        self._forward = client.send
        self._out_of_range = out_of_range
        client.send = self.send

    async def send(self, node: Any, request: Any, **options: Any) -> Any:
        """Send a request to a node, and return its answer.

        Raises:
            KafkaError: the node cannot be reached, or answers that the request failed.
        """
        answer = await self._forward(node, request, **options)
        if isinstance(request, OffsetFetchRequest):
            _check_offset_fetch(answer)
        elif isinstance(request, FetchRequest):
            await self._check_fetch(request, answer)
        return answer

    async def _check_fetch(self, request: FetchRequest, answer: Any) -> None:
        outside = [
            TopicPartition(topic, number)
            for topic, partitions in answer.topics
            for number, code, *_ in partitions
            if code == OffsetOutOfRangeError.errno
        ]
        if outside:
            asked = {(topic, number): at for topic, found in request._topics for number, at, _ in found}
            for partition in outside:
                await self._out_of_range(partition, asked[partition])


def _check_offset_fetch(answer: Any) -> None:
    error = for_code(getattr(answer, "error_code", NoError.errno))  # version 1 has none
    if error is not NoError:
        raise error
    for topic, partitions in answer.topics:
        # aiokafka passes over this one; it raises all other codes.
        if any(code == UnknownTopicOrPartitionError.errno for *_, code in partitions):
            raise UnknownTopicOrPartitionError(topic)
