"""What the namespace tests share: namespaces, the daemon under test, peers, packets and the runner."""
