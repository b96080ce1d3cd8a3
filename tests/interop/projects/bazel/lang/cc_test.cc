#include <vector>

#include "lang/twice.h"

int main()
{
	std::vector<int> v = {21};
	return twice(v[0]) == 42 ? 0 : 1;
}
