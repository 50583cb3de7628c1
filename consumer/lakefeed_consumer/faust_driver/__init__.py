"""The boundary around Faust and aiokafka: whatever relies on their private parts is in this package.

`member.FaustMember` is what the rest of the consumer uses. tests/unit/consumer/test_faust_driver_contract.py
checks each private name; the pins in pyproject.toml keep to the versions that it was checked with.
"""
