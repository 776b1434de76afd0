/* A child process on Windows. Reading and writing never wait. */
#ifndef ECELLM_LITE_PROCESS_WINDOWS_H
#define ECELLM_LITE_PROCESS_WINDOWS_H

#include "text.h"

#include <stdint.h>

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

enum { PIPE_SIZE = 1 << 16 }; /* bytes */

typedef struct {
    HANDLE program, input, output;
} process;

static int64_t now(void) {
    return (int64_t)GetTickCount64();
}

static int process_start(process *child, const char *command, int drop_messages) {
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    STARTUPINFOW start = {0};
    PROCESS_INFORMATION made;
    DWORD without_waiting = PIPE_NOWAIT;
    WCHAR *line = checked(malloc((strlen(command) + 1) * sizeof *line));
    MultiByteToWideChar(CP_UTF8, 0, command, -1, line, (int)strlen(command) + 1);
    if (!CreatePipe(&start.hStdInput, &child->input, &inherited, PIPE_SIZE)) return 0;
    if (!CreatePipe(&child->output, &start.hStdOutput, &inherited, PIPE_SIZE)) return 0;
    SetHandleInformation(child->input, HANDLE_FLAG_INHERIT, 0);
    SetHandleInformation(child->output, HANDLE_FLAG_INHERIT, 0);
    SetNamedPipeHandleState(child->input, &without_waiting, NULL, NULL);
    if (drop_messages) {
        start.hStdError = CreateFileW(L"NUL", GENERIC_WRITE, FILE_SHARE_WRITE, &inherited, OPEN_EXISTING, 0, NULL);
    } else {
        HANDLE host = GetCurrentProcess();
        DuplicateHandle(host, GetStdHandle(STD_ERROR_HANDLE), host, &start.hStdError, 0, TRUE, DUPLICATE_SAME_ACCESS);
    }
    start.cb = sizeof start;
    start.dwFlags = STARTF_USESTDHANDLES;
    BOOL is_started = CreateProcessW(NULL, line, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &start, &made);
    free(line);
    CloseHandle(start.hStdInput);
    CloseHandle(start.hStdOutput);
    if (start.hStdError) CloseHandle(start.hStdError);
    if (!is_started) {
        CloseHandle(child->input);
        CloseHandle(child->output);
        return 0;
    }
    CloseHandle(made.hThread);
    child->program = made.hProcess;
    return 1;
}

static long process_number(const process *child) {
    return (long)GetProcessId(child->program);
}

/* Return how many bytes the child took: 0 if it takes none now, -1 if it is gone. */
static long process_write(process *child, const char *data, size_t length) {
    DWORD written = 0;
    if (!WriteFile(child->input, data, length < 4096 ? (DWORD)length : 4096, &written, NULL)) return -1;
    return (long)written;
}

/* Return how many bytes were read: 0 if there are none now, -1 if there will be no more. */
static long process_read(process *child, char *data, size_t room) {
    DWORD there = 0, length = 0;
    if (!PeekNamedPipe(child->output, NULL, 0, NULL, &there, NULL)) return -1;
    if (!there) return 0;
    if (!ReadFile(child->output, data, there < room ? there : (DWORD)room, &length, NULL)) return -1;
    return (long)length;
}

/* Windows cannot wait for such pipes, so look again soon. */
static void process_wait(process *child, int wants_to_write, int64_t ms) {
    (void)child, (void)wants_to_write;
    Sleep(ms > 0 ? 1 : 0);
}

/* Give the child `ms` to end by itself, then kill it. Return its exit code. */
static int process_end(process *child, int ms) {
    DWORD code = 0;
    CloseHandle(child->input);
    if (WaitForSingleObject(child->program, (DWORD)ms) != WAIT_OBJECT_0) TerminateProcess(child->program, 1);
    WaitForSingleObject(child->program, INFINITE);
    GetExitCodeProcess(child->program, &code);
    CloseHandle(child->program);
    CloseHandle(child->output);
    return (int)code;
}

#endif
