"""Training of AdaMML: networks of several modalities, and the policies that choose among them."""
