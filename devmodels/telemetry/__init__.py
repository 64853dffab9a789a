"""What a running daemon tells of its work: lines of JSON at a socket, and a page for Prometheus."""
