# llama-cpp-python builds llama.cpp's common library for tools that are not installed: half of the compile time.
# CMake reads this file right after `project(llama.cpp)`, by -DCMAKE_PROJECT_llama.cpp_INCLUDE.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
