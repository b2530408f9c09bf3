"""What tests of several floors need; no fixtures here, and no tests."""
