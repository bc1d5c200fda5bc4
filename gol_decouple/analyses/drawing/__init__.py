"""The figures of the analyses, by matplotlib without its global state or a screen."""
