module reports

go 1.27
