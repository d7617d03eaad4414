module dev.dynamoring/example

go 1.22
