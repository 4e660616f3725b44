"""ipcwarden: IPC limits for every container, and an audit of what each left behind."""

__version__ = "0.1.0"
