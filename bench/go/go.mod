module raddle.example/bench

go 1.25
