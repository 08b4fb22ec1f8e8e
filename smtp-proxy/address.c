#include "smtp-proxy/address.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "account/username.h"

static void name_postmaster(const char *node, struct address *out)
{
    const char *dot = strchr(node, '.');

    if (dot != NULL && strchr(dot + 1, '.') != NULL)
        node = dot + 1;
    snprintf(out->typed, sizeof(out->typed), "postmaster@%s", node);
    memcpy(out->hop_path, out->typed, sizeof(out->hop_path));
}

bool address_read(const struct smtp_path *path, const char *node,
                  struct address *out)
{
    struct username name;
    struct err err;

    if (path->has_domain) {
        memcpy(out->typed, path->plain, sizeof(out->typed));
        memcpy(out->hop_path, path->text, sizeof(out->hop_path));
    } else if (strcasecmp(path->plain, "postmaster") == 0) {
        name_postmaster(node, out);
    } else {
        return false;
    }
    if (path->is_literal || strchr(out->typed, '!') != NULL ||
        username_parse(out->typed, strlen(out->typed), &name, &err) == -1)
        return false;
    memcpy(out->canonical, name.address, sizeof(out->canonical));
    return true;
}
