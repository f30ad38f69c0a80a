"""Charts as SVG that need nothing but a browser."""
