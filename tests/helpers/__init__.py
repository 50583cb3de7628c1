"""What tests, benchmarks and the chaos suite share: servers, services as processes, fakes, waiting."""
