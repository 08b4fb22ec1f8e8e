#include "migrator/message_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define FLAGS_MAX 8192

bool message_keyword_can_be_sent(const char *word)
{
    if (*word == '\0' || *word == '\\')
        return false;
    for (; *word != '\0'; word++)
        if (*word <= 0x20 || *word >= 0x7f || strchr("(){%*\"\\]", *word))
            return false;
    return true;
}

char *message_flags_text(const struct source_message *m)
{
    static const struct {
        enum message_flag bit;
        const char *word;
    } words[] = {{MESSAGE_DRAFT, "\\Draft"},
                 {MESSAGE_FLAGGED, "\\Flagged"},
                 {MESSAGE_ANSWERED, "\\Answered"},
                 {MESSAGE_SEEN, "\\Seen"},
                 {MESSAGE_DELETED, "\\Deleted"}};
    struct buf text;

    buf_init(&text, FLAGS_MAX);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (m->flags & words[i].bit)
            buf_printf(&text, "%s%s", text.used > 0 ? " " : "", words[i].word);
    for (unsigned i = 0; i < m->keyword_count; i++)
        if (message_keyword_can_be_sent(m->keywords[i]))
            buf_printf(&text, "%s%s", text.used > 0 ? " " : "", m->keywords[i]);
    return text.used > 0 ? buf_steal(&text) : mem_dup_text("");
}

int message_file_open(struct message_file *file, const char *directory,
                      struct err *err)
{
    char path[1100];

    body_digest_init(&file->body);
    snprintf(path, sizeof path, "%s/message.body", directory);
    file->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file->fd == -1)
        return err_set(err, err_kind_of_errno(errno), "%s: %s", path,
                       strerror(errno));
    unlink(path);
    return 0;
}

void message_file_release(struct message_file *file)
{
    if (file->fd != -1)
        close(file->fd);
    file->fd = -1;
    body_digest_release(&file->body);
}

static int on_piece(void *ctx, const char *bytes, size_t length,
                    struct err *err)
{
    struct message_file *file = ctx;

    body_digest_add(&file->body, bytes, length);
    while (length > 0) {
        ssize_t written = write(file->fd, bytes, length);

        if (written == -1 && errno == EINTR)
            continue;
        if (written <= 0)
            return err_set(err, err_kind_of_errno(errno), "message.body: %s",
                           strerror(errno));
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

static int on_end(void *ctx, const struct source_message *message,
                  struct err *err)
{
    struct message_file *file = ctx;

    (void)message;
    (void)err;
    file->size_bytes = file->body.size_bytes;
    file->vsize = body_digest_vsize(&file->body);
    body_digest_take(&file->body, file->digest);
    file->is_whole = true;
    return 0;
}

int message_file_fetch(struct message_file *file, struct source *source,
                       uint32_t uid, uint32_t size_bytes, struct err *err)
{
    static const struct source_sink sink = {on_piece, on_end};

    body_digest_reset(&file->body);
    file->is_whole = false;
    if (ftruncate(file->fd, 0) == -1 || lseek(file->fd, 0, SEEK_SET) == -1)
        return err_set(err, err_kind_of_errno(errno), "message.body: %s",
                       strerror(errno));
    if (source_bodies(source, &uid, 1, &sink, file, err) == -1)
        return -1;
    if (!file->is_whole)
        return err_set(err, ERR_ITEM, "the server does not send it");
    if (file->size_bytes == 0 && size_bytes > 0)
        return err_set(err, ERR_ITEM, "the server sends nothing of %u bytes",
                       size_bytes);
    return 0;
}
