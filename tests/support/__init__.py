"""What the tests share: servers, small runs, browsers, and prepared ledgers."""
