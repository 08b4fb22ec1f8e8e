"""What the end-to-end tests are made of: servers, clients, comparisons."""
