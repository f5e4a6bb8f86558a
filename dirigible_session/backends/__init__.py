"""Session engines that lose no update and keep no usable id."""
