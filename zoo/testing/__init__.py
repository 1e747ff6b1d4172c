"""The conformance kit: what every backbone, head, strategy, imputer and data set promises, as checks."""
