# A file as an array of C: cmake -DIN=FILE -DOUT=FILE.c -DNAME=SYMBOL -P embed.cmake defines
# const unsigned char NAME[] and const size_t NAME_len.
file(READ ${IN} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR len "${digits} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
file(WRITE ${OUT} "/* Made by embed.cmake. */
#include <stddef.h>

extern const unsigned char ${NAME}[];
extern const size_t ${NAME}_len;
const unsigned char ${NAME}[] = {
${hex}};
const size_t ${NAME}_len = ${len};
")
