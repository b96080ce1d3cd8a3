/* What the interop tests have Bazel compile. */
#pragma once
int twice(int n);
