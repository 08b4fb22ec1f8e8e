/*
 * Clients that log in, all in one process.
 *
 *   logins rate  PROTOCOL PORT USERS CLIENTS SECONDS
 *       CLIENTS at a time log in, leave and come again; prints logins a second
 *       and their median and longest time in ms
 *   logins once  PROTOCOL PORT USERS CLIENTS
 *       each of USERS once; the same figures
 *   logins storm PROTOCOL PORT USERS CLIENTS SECONDS
 *       CLIENTS log in and stay; prints "in SECONDS" when all are in, and each
 *       time they are all in again after they were cut off: "back SECONDS
 *       tries=N temporary=N refused=N" since the first loss. Who fails comes
 *       again after 1, 2, 4, then every 8 s, give or take a half. Ends after
 *       SECONDS, or when input ends.
 *
 * PROTOCOL is imap or pop3, the host 127.0.0.1, the users user001@example.test
 * and so on with the password pw-user001.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS   512
#define TIMES    4000000
#define PATIENCE 60.0 /* for an answer: as much as mail programs have */

enum step { AWAY, GREETING, USER, PASS, IN };

struct client {
    int fd; /* -1: away */
    enum step step;
    unsigned user;
    double began, again; /* when it connected; when it comes again */
    unsigned failures;
    size_t used;
    char line[1024];
};

static bool is_pop3, stays, is_once;
static unsigned user_count, client_count, next_user, in_count;
static unsigned tries, temporary, refused, broken;
static uint64_t done;
static int epoll_fd;
static struct sockaddr_in server;
static struct client *clients;
static float *times;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void leave(struct client *c, double wait_s)
{
    if (c->step == IN)
        in_count--;
    if (c->fd != -1)
        close(c->fd);
    c->fd = -1;
    c->step = AWAY;
    c->again = now() + wait_s;
}

/* As a mail program would: ever longer, and not all at the same moment. */
static void fail(struct client *c)
{
    unsigned shift = c->failures < 3 ? c->failures : 3;
    double chance = (double)random() / (double)RAND_MAX;

    c->failures++;
    leave(c, stays ? (1u << shift) * (0.5 + chance) : 0.05);
}

static void say(struct client *c, const char *text)
{
    size_t length = strlen(text);

    if (send(c->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        fail(c);
}

static void come(struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd == -1) {
        perror("logins: socket");
        exit(1);
    }
    tries++;
    c->began = now();
    c->used = 0;
    c->step = GREETING;
    if (!stays)
        c->user = next_user++ % user_count;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) == -1 &&
        errno != EINPROGRESS) {
        fail(c);
        return;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static void is_in(struct client *c)
{
    if (done < TIMES)
        times[done] = (float)(now() - c->began);
    done++;
    c->failures = 0;
    c->step = IN;
    in_count++;
    if (!stays) {
        say(c, is_pop3 ? "QUIT\r\n" : "b LOGOUT\r\n");
        leave(c, is_once && next_user >= user_count ? 1e9 : 0);
    }
}

static void send_login(struct client *c)
{
    char text[160];
    unsigned number = c->user + 1;

    if (is_pop3)
        snprintf(text, sizeof text, "USER user%03u@example.test\r\n", number);
    else
        snprintf(text, sizeof text,
                 "a LOGIN user%03u@example.test pw-user%03u\r\n", number,
                 number);
    c->step = is_pop3 ? USER : PASS;
    say(c, text);
}

static void send_password(struct client *c)
{
    char text[64];

    snprintf(text, sizeof text, "PASS pw-user%03u\r\n", c->user + 1);
    c->step = PASS;
    say(c, text);
}

/* Whether that is said of the password, and not of the moment. */
static bool is_refusal(const char *line)
{
    if (is_pop3)
        return strstr(line, "[SYS/TEMP]") == NULL &&
               strstr(line, "[IN-USE]") == NULL &&
               strstr(line, "[LOGIN-DELAY]") == NULL;
    return strstr(line, "[UNAVAILABLE]") == NULL;
}

static void on_line(struct client *c, const char *line)
{
    bool is_good = is_pop3 ? line[0] == '+'
                           : strncmp(line, "* OK", 4) == 0 ||
                                 strncmp(line, "a OK", 4) == 0;

    if (!is_pop3 && c->step == PASS && line[0] == '*' &&
        strncmp(line, "* BYE", 5) != 0)
        return;
    if (!is_good) {
        if (c->step == PASS && is_refusal(line)) {
            refused++;
            fprintf(stderr, "logins: %s\n", line);
        } else {
            temporary++;
        }
        fail(c);
        return;
    }
    switch (c->step) {
    case GREETING: send_login(c); break;
    case USER: send_password(c); break;
    case PASS: is_in(c); break;
    case IN:
    case AWAY: break;
    }
}

static void on_input(struct client *c)
{
    ssize_t got;
    char *end;

    got = recv(c->fd, c->line + c->used, sizeof c->line - c->used - 1, 0);
    if (got <= 0) {
        if (got == -1 && errno == EAGAIN)
            return;
        broken += c->step != IN;
        fail(c);
        return;
    }
    c->used += (size_t)got;
    c->line[c->used] = '\0';
    while (c->fd != -1 && (end = memchr(c->line, '\n', c->used)) != NULL) {
        size_t length = (size_t)(end - c->line) + 1;
        char line[1024];

        memcpy(line, c->line, length);
        line[length - 1] = '\0';
        memmove(c->line, end + 1, c->used - length);
        c->used -= length;
        on_line(c, line);
    }
    if (c->used == sizeof c->line - 1)
        c->used = 0; /* a long line: its end is enough */
}

static void look_at_clocks(double t)
{
    for (unsigned i = 0; i < client_count; i++) {
        struct client *c = &clients[i];

        if (c->step == AWAY && c->again <= t)
            come(c);
        else if (c->step != AWAY && c->step != IN && t - c->began > PATIENCE)
            fail(c);
    }
}

static void turn(int wait_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, wait_ms);

    for (int i = 0; i < count; i++) {
        struct client *c = events[i].data.ptr;

        if (c->fd != -1)
            on_input(c);
    }
}

static bool has_input_ended(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    char c;

    return poll(&p, 1, 0) == 1 && read(0, &c, 1) <= 0;
}

/* In, and in again as often as they are cut off. */
static void storm(double seconds)
{
    double began = now(), lost = 0;
    bool are_in = false;

    while (now() - began < seconds && !has_input_ended()) {
        look_at_clocks(now());
        for (int i = 0; i < 20; i++)
            turn(5);
        if (are_in && in_count < client_count / 2) {
            are_in = false;
            lost = now();
            tries = temporary = refused = broken = 0;
        } else if (!are_in && in_count == client_count) {
            are_in = true;
            printf("%s %.2f tries=%u temporary=%u refused=%u cut=%u\n",
                   lost > 0 ? "back" : "in", now() - (lost > 0 ? lost : began),
                   tries, temporary, refused, broken);
            fflush(stdout);
        }
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void rate(double seconds)
{
    double began = now(), took;

    while (now() - began < seconds && !(is_once && done >= user_count)) {
        look_at_clocks(now());
        turn(1);
    }
    took = now() - began;
    if (done == 0 || done > TIMES)
        exit(1);
    qsort(times, done, sizeof *times, by_size);
    printf("%.1f median_ms=%.2f longest_ms=%.1f failed=%u\n",
           (double)done / took, times[done / 2] * 1e3, times[done - 1] * 1e3,
           temporary + refused + broken);
}

int main(int argc, char **argv)
{
    struct rlimit files = {60000, 60000};
    double seconds = argc > 6 ? strtod(argv[6], NULL) : 1e6;

    if (argc < 6)
        return 2;
    stays = strcmp(argv[1], "storm") == 0;
    is_once = strcmp(argv[1], "once") == 0;
    is_pop3 = strcmp(argv[2], "pop3") == 0;
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    user_count = (unsigned)strtoul(argv[4], NULL, 10);
    client_count = (unsigned)strtoul(argv[5], NULL, 10);
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(client_count, sizeof *clients);
    times = malloc(TIMES * sizeof *times);
    if (user_count == 0 || epoll_fd == -1 || !clients || !times)
        return 1;
    for (unsigned i = 0; i < client_count; i++) {
        clients[i].fd = -1;
        clients[i].user = i % user_count;
    }
    if (stays)
        storm(seconds);
    else
        rate(seconds);
    return refused > 0;
}
