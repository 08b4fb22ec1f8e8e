/*
 * mailhauld: master, or with --role the process of one role.
 */
#include <getopt.h>
#include <stdio.h>

#include "base/version.h"
#include "daemon/master.h"
#include "daemon/role.h"

#define CONF_PATH "/etc/mailhaul/mailhaul.yaml"

static const char usage[] =
    "usage: mailhauld [-c FILE] [--check] [--foreground]\n"
    "\n"
    "  -c, --config FILE  the configuration (" CONF_PATH ")\n"
    "  --check            say whether the configuration is good, and end\n"
    "  --foreground       stay in the foreground\n"
    "  --version\n"
    "  --help\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"foreground", no_argument, NULL, 'f'},
        {"role", required_argument, NULL, 'r'}, /* master's own use */
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    const char *path = CONF_PATH, *role = NULL;
    bool is_check = false, in_foreground = false;
    int option;

    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c': path = optarg; break;
        case 'k': is_check = true; break;
        case 'f': in_foreground = true; break;
        case 'r': role = optarg; break;
        case 'h': fputs(usage, stdout); return 0;
        case 'v': puts("mailhauld " MAILHAUL_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    if (is_check)
        return master_check(path);
    return role ? role_run(role) : master_run(path, in_foreground);
}
