#include "account/username.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DOMAIN_BYTES_MAX 253 /* RFC 1035 2.3.4, as text */
#define LOCAL_BYTES_MAX  255 /* a name in a directory */

static char folded(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9');
}

/* The length of the UTF-8 character at `at`, 0 if it is none (RFC 3629), or one
   of the control characters U+0080 to U+009F. */
static size_t utf8_length(const char *at, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)at[0];
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t code = first & (0xffu >> (length + 1));

    if (first < 0xc2 || first > 0xf4 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++) {
        unsigned char next = (unsigned char)at[i];

        if ((next & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (next & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff || code < 0xa0)
        return 0;
    return code >= 0xd800 && code <= 0xdfff ? 0 : length;
}

/* Every byte is a letter, a digit, part of a UTF-8 character or in `others`. */
static bool has_only(const char *text, size_t length, const char *others)
{
    for (size_t i = 0; i < length;) {
        size_t step = 1;

        if ((unsigned char)text[i] >= 0x80)
            step = utf8_length(text + i, length - i);
        else if (text[i] == '\0' || (!is_letter_or_digit(text[i]) &&
                                     strchr(others, text[i]) == NULL))
            step = 0;
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

static void copy_folded(char *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = folded(text[i]);
    out[length] = '\0';
}

static int parse_local(const char *typed, size_t length, struct username *out,
                       struct err *err)
{
    const char *tag;

    /* RFC 5321 atext without '/', '*' and '%'. A ':' would begin a parameter in
       Dovecot's mail location, a quote or a space means other things in each
       protocol. */
    if (!has_only(typed, length, "!#$&'+-=?^_`{|}~."))
        return err_set(err, ERR_DENIED, "user name has a forbidden character");
    tag = memchr(typed, '+', length);
    if (tag != NULL)
        length = (size_t)(tag - typed);
    if (length == 0)
        return err_set(err, ERR_DENIED, "user name is empty");
    if (length > LOCAL_BYTES_MAX)
        return err_set(err, ERR_DENIED, "user name is too long");
    if (typed[0] == '.' && (length == 1 || (length == 2 && typed[1] == '.')))
        return err_set(err, ERR_DENIED, "user name is a folder");
    copy_folded(out->local, typed, length);
    return 0;
}

static int parse_domain(const char *typed, size_t length, struct username *out,
                        struct err *err)
{
    bool at_start = true;

    if (length > 0 && typed[length - 1] == '.')
        length--;
    if (length == 0)
        return err_set(err, ERR_DENIED, "domain is empty");
    if (length > DOMAIN_BYTES_MAX)
        return err_set(err, ERR_DENIED, "domain is too long");
    if (!has_only(typed, length, "-_."))
        return err_set(err, ERR_DENIED, "domain has a forbidden character");
    for (size_t i = 0; i < length; i++) {
        if (at_start && (typed[i] == '.' || typed[i] == '-'))
            return err_set(err, ERR_DENIED, "domain has a bad label");
        at_start = typed[i] == '.';
    }
    if (at_start)
        return err_set(err, ERR_DENIED, "domain has an empty label");
    copy_folded(out->domain, typed, length);
    return 0;
}

int username_parse(const char *typed, size_t length, struct username *out,
                   struct err *err)
{
    const char *at;
    size_t local_length = length;
    int written;

    memset(out, 0, sizeof(*out));
    if (length == 0)
        return err_set(err, ERR_DENIED, "user name is empty");
    if (length >= ADDRESS_MAX)
        return err_set(err, ERR_DENIED, "user name is too long");
    at = memchr(typed, '@', length);
    if (at != NULL) {
        local_length = (size_t)(at - typed);
        if (parse_domain(at + 1, length - local_length - 1, out, err) == -1)
            return -1;
    }
    if (parse_local(typed, local_length, out, err) == -1)
        return -1;
    written = snprintf(out->address, sizeof(out->address), "%s%s%s", out->local,
                       out->domain[0] != '\0' ? "@" : "", out->domain);
    if (written < 0 || (size_t)written >= sizeof(out->address))
        return err_set(err, ERR_DENIED, "user name is too long");
    return 0;
}

static bool can_be_login(const char *typed, size_t length)
{
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)typed[i];
        size_t step = 1;

        if (c >= 0x80)
            step = utf8_length(typed + i, length - i);
        else if (c < 0x20 || c == 0x7f)
            step = 0;
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

int username_login_name(const char *typed, size_t length, char out[ADDRESS_MAX],
                        struct err *err)
{
    struct username name;

    if (username_parse(typed, length, &name, err) == 0) {
        memcpy(out, name.address, sizeof(name.address));
        return 0;
    }
    if (length == 0 || length >= ADDRESS_MAX || !can_be_login(typed, length))
        return -1;
    err_clear(err);
    copy_folded(out, typed, length);
    return 0;
}

/* What {word} stands for; NULL if it is no word of ours. */
static const char *word_value(const struct username *name, const char *word,
                              size_t length)
{
    const struct {
        const char *word;
        const char *value;
    } words[] = {{"address", name->address},
                 {"local", name->local},
                 {"domain", name->domain}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i].word) == length &&
            memcmp(words[i].word, word, length) == 0)
            return words[i].value;
    }
    return NULL;
}

int username_fill(const char *template, const struct username *name, char *out,
                  size_t size, struct err *err)
{
    size_t used = 0;

    for (const char *at = template; *at != '\0';) {
        const char *piece = at;
        size_t length = strcspn(at, "{");

        if (length > 0) {
            at += length;
        } else {
            size_t word = strcspn(at + 1, "}");

            piece = word_value(name, at + 1, word);
            if (at[1 + word] != '}' || piece == NULL)
                return err_set(err, ERR_SETUP,
                               "template %s: unknown word at \"%s\"", template,
                               at);
            length = strlen(piece);
            at += word + 2;
        }
        if (length >= size - used)
            return err_set(err, ERR_SETUP, "template %s: result is too long",
                           template);
        memcpy(out + used, piece, length);
        used += length;
    }
    if (size == 0)
        return err_set(err, ERR_SETUP, "template %s: no room", template);
    out[used] = '\0';
    return 0;
}
