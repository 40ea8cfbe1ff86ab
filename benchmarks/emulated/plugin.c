/* A QEMU plugin that counts the instructions which each thread of an emulated program executes.
 *
 *   qemu-aarch64 -plugin libcount.so,out=FILE PROGRAM
 *
 * At each getppid() of the program it writes a line, the thread's count so far, to FILE: the program marks so where a
 * piece of work begins and ends, and what lies before the first mark - the start of Python, imports, the load of a
 * model - is never in a difference. A block counts with all its instructions when it is entered: one that is left
 * early, by a signal, counts too many.
 *
 * The declarations are those of QEMU's documented interface (docs/devel/tcg-plugins, qemu-plugin.h), repeated because
 * Debian packages no header: version 1 for QEMU 4.2 to 8.2, version 2 from 9.0 on; both have what is used here alike.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define GETPPID 173 /* on aarch64 */
#define THREADS 256

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *),
                                                 enum qemu_plugin_cb_flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id,
                                                 void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t executed[THREADS]; /* by thread: no two write the same */
static int out = -1;

static void on_block(unsigned thread, void *instructions)
{
    executed[thread % THREADS] += (uintptr_t)instructions;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void on_system_call(plugin_id id, unsigned thread, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                           uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == GETPPID)
        dprintf(out, "%llu\n", (unsigned long long)executed[thread % THREADS]);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *machine, int count, char **arguments)
{
    (void)machine;
    for (int n = 0; n < count; n++)
        if (strncmp(arguments[n], "out=", 4) == 0)
            out = open(arguments[n] + 4, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (out < 0) {
        fprintf(stderr, "plugin.c: out=FILE is missing or cannot be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    return 0;
}
