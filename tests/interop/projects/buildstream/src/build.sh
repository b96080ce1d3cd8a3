#!/bin/sh
set -e
tr a-z A-Z < hello.txt > HELLO
