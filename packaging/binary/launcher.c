/* asyd as one file: an interpreter that imports from the zip archive at its own end.
 *
 * Nothing is extracted, so nothing needs room (docs/guides/binary.md). Modules in Python come from
 * the archive by zipimport; boot.py loads those in C, from memory. All is read from /proc/self/exe:
 * that is this very file, also when another has taken its place on the disk.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SELF "/proc/self/exe"
#define RUN "--asys-run"

static PyObject *load_library(PyObject *module, PyObject *name)
{
    (void)module;
    const char *path = PyUnicode_AsUTF8(name);
    if (path == NULL)
        return NULL;
    /* It is there for modules that need it: they find it by its soname. It is never unloaded. */
    if (dlopen(path, RTLD_NOW | RTLD_LOCAL) == NULL) {
        PyErr_Format(PyExc_ImportError, "%s", dlerror());
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"load_library", load_library, METH_O, "Loads a shared library from a path. ImportError."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_asys_launcher",
    .m_doc = "What boot.py needs of C.",
    .m_methods = methods,
};

static PyObject *init_launcher(void)
{
    return PyModuleDef_Init(&definition);
}

/* What `ps` shows: a child is executed as /proc/self/exe, and would be called `exe`. */
static void set_process_name(int argc, char **argv)
{
    char name[16];
    if (argc < 3 || strcmp(argv[1], RUN) != 0)
        return;
    const char *slash = strrchr(argv[2], '/');
    const char *program = slash == NULL ? argv[2] : slash + 1;
    snprintf(name, sizeof name, "asyd-%.*s", (int)strcspn(program, "."), program);
    prctl(PR_SET_NAME, name);
}

static PyStatus initialize(int argc, char **argv, const char *path)
{
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* whatever locales the machine has, or has not */
    PyStatus status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status))
        return status;

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.install_signal_handlers = 1; /* as `python -I`: SIGPIPE, SIGINT */
    config.module_search_paths_set = 1;
    struct {
        wchar_t **field;
        const char *value;
    } strings[] = {
        {&config.program_name, path},
        {&config.executable, path},
        {&config.base_executable, path},
        {&config.prefix, SELF},
        {&config.base_prefix, SELF},
        {&config.exec_prefix, SELF},
        {&config.base_exec_prefix, SELF},
        {&config.run_command, "import asys_boot; asys_boot.main()"},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        status = PyConfig_SetBytesString(&config, strings[i].field, strings[i].value);
        if (PyStatus_Exception(status))
            goto done;
    }
    status = PyWideStringList_Append(&config.module_search_paths, L"" SELF);
    if (PyStatus_Exception(status))
        goto done;
    status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (PyStatus_Exception(status))
        goto done;
    status = Py_InitializeFromConfig(&config);
done:
    PyConfig_Clear(&config);
    return status;
}

int main(int argc, char **argv)
{
    char path[PATH_MAX];
    ssize_t length = readlink(SELF, path, sizeof path - 1);
    if (length < 0) {
        fputs("asyd: /proc is not mounted, and this executable reads itself through it\n", stderr);
        return 1;
    }
    path[length] = '\0';
    set_process_name(argc, argv);
    if (PyImport_AppendInittab("_asys_launcher", init_launcher) < 0) {
        fputs("asyd: there is no memory to start in\n", stderr);
        return 1;
    }
    PyStatus status = initialize(argc, argv, path);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    return Py_RunMain();
}
