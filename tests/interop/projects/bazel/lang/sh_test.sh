#!/bin/sh
grep -qx data lang/data.txt
