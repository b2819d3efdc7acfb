"""The seams of the system: what a policy, a broker, a queue, a cache, a store must do, in sentences that tests pin."""
