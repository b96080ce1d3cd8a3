/* later */
#include "client/sandbox.h"
