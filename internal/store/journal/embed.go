package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// maxStoreBytes takes the server's own disk quota out of the way. Its
	// default is three quarters of what is free at start, without what the
	// journal itself already holds: a restart on a filling disk would make a
	// log read-only. [LogOptions.MaxBytes] is the limit that is meant.
	maxStoreBytes = 1 << 50

	// maxMemoryBytes is the quota of memory-backed streams, which we have none
	// of; it must be set for the disk quota to be taken as given.
	maxMemoryBytes = 64 << 20

	// maxPendingBytes is what may wait for one connection before the server
	// cuts it. All followers share one and may ask for pullBytes each.
	maxPendingBytes = 1 << 30
)

// startServer starts a server without any listener and returns once it has
// recovered its files. Shutting it down is the caller's, except on error.
func startServer(ctx context.Context, o Options) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "serin",
		DontListen: true,
		NoSigs:     true,
		NoLog:      true,
		MaxPayload: maxPayloadBytes,
		MaxPending: maxPendingBytes,

		JetStream:          true,
		StoreDir:           o.Dir,
		SyncAlways:         true,
		JetStreamMaxStore:  maxStoreBytes,
		JetStreamMaxMemory: maxMemoryBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("configure server: %w", err)
	}
	log := &serverLog{logger: o.Logger}
	srv.SetLogger(log, false, false)

	// Start returns after recovery, which for a long log may exceed ctx.
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	select {
	case <-started:
	case <-ctx.Done():
		srv.Shutdown()
		<-started
		return nil, fmt.Errorf("start server: %w", ctx.Err())
	}
	if !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		if fatal := log.fatal.Load(); fatal != nil {
			return nil, fmt.Errorf("start server: %s", *fatal)
		}
		return nil, errors.New("start server: JetStream is not enabled")
	}
	return srv, nil
}

// serverLog hands what the server has to complain about to slog. Notices,
// which tell of a normal start and stop, are dropped.
type serverLog struct {
	logger *slog.Logger
	fatal  atomic.Pointer[string] // what made the start fail
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.logger.Warn("journal: server", "message", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.logger.Error("journal: server", "message", fmt.Sprintf(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.fatal.Store(&text)
	l.logger.Error("journal: server", "message", text)
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

// dirLock keeps a directory to one process. The kernel drops it when the
// process ends, however it ends, so there is no stale lock to clear by hand.
type dirLock struct{ f *os.File }

func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "journal.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("directory is in use by another process")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) release() error { return l.f.Close() }
