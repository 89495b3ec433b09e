"""The window: the browser application that shows what the other rooms compute. It needs the extra `studio`."""
