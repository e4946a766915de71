"""What is shown: traces as HTML, lines and text, lists, figures."""
