"""What the parts are made of: the packages of their locks, known vulnerabilities, bills of materials."""
