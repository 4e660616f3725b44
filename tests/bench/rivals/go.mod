module ipcwarden/bench

go 1.19
