"""Errors that end one membership of the consumer group; the service then starts another."""

from __future__ import annotations


class TopicRecreatedError(Exception):
    """The topic was deleted and recreated while it was read: its offsets now refer to other records."""


class MembershipLostError(Exception):
    """aiokafka has ended its membership of the group; a new client has to join."""
