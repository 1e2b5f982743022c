// A client of gRPC's Go: everything over one connection to a gateway, with calls.py's server behind it.
//
//	grpc-client ADDRESS AUTHORITY
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What hangs is wrong: no call but those that are meant to end early may take longer.
const patience = 4 * time.Minute

const mebibyte = 1 << 20

type message = wrapperspb.BytesValue

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: grpc-client ADDRESS AUTHORITY"))
	}
	var dials atomic.Int32
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	conn, err := grpc.NewClient("passthrough:///"+os.Args[1], grpc.WithAuthority(os.Args[2]), grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	fail(err)
	for _, part := range []func(*grpc.ClientConn) (string, error){
		unary, down, up, refusal, details, deadline, cancel, manyBoth, longBoth,
	} {
		said, err := part(conn)
		fail(err)
		fmt.Println(said)
	}
	if n := dials.Load(); n != 1 {
		fail(fmt.Errorf("%d connections", n))
	}
	fmt.Println("all over one connection")
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func random(size int) *message {
	value := make([]byte, size)
	rand.Read(value)
	return &message{Value: value}
}

func same(sent, got *message) error {
	if !bytes.Equal(sent.Value, got.Value) {
		return fmt.Errorf("%d bytes sent, %d others came back", len(sent.Value), len(got.Value))
	}
	return nil
}

// at runs one many times, some of them at once, and says what went wrong first.
func at(once, times int, one func(int) error) error {
	numbers := make(chan int, times)
	for number := range times {
		numbers <- number
	}
	close(numbers)
	failures := make([]error, once)
	var workers sync.WaitGroup
	for worker := range once {
		workers.Go(func() {
			for number := range numbers {
				if failures[worker] = one(number); failures[worker] != nil {
					return
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(failures...)
}

func unary(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	return "5000 calls of up to 20 kB, 20 at once", at(20, 5000, func(number int) error {
		sent, got := random(number*4), new(message)
		if err := conn.Invoke(ctx, "/wire.Wire/Echo", sent, got); err != nil {
			return fmt.Errorf("Echo %d: %w", number, err)
		}
		return same(sent, got)
	})
}

func down(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	return "20 streams of 1000 messages down", at(5, 20, func(int) error {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/wire.Wire/Many")
		if err != nil {
			return err
		}
		sent := random(100)
		if err := errors.Join(stream.SendMsg(sent), stream.CloseSend()); err != nil {
			return err
		}
		for count := 0; ; count++ {
			got := new(message)
			err := stream.RecvMsg(got)
			if err == io.EOF && count == 1000 {
				return nil
			}
			if err != nil {
				return fmt.Errorf("Many: %w after %d messages", err, count)
			}
			if err := same(sent, got); err != nil {
				return err
			}
		}
	})
}

func up(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	return "20 streams of 200 messages up", at(5, 20, func(int) error {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/wire.Wire/Last")
		if err != nil {
			return err
		}
		var sent *message
		for number := range 200 {
			sent = random(number * 10)
			if err := stream.SendMsg(sent); err != nil {
				return err
			}
		}
		got := new(message)
		if err := errors.Join(stream.CloseSend(), stream.RecvMsg(got)); err != nil {
			return fmt.Errorf("Last: %w", err)
		}
		return same(sent, got)
	})
}

// The gateway itself refuses as gRPC does.
func refusal(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	err := conn.Invoke(ctx, "/closed/Echo", random(1), new(message))
	if status.Code(err) != codes.Unauthenticated {
		return "", fmt.Errorf("without a key: %w", err)
	}
	return "a refusal of the gateway", nil
}

func details(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	const text = "nothing, 100 % nichts, für niemanden"
	detail := &errdetails.ErrorInfo{Reason: "GONE", Domain: "wire.test", Metadata: map[string]string{"where": "ü,=\x01"}}
	wanted, err := status.New(codes.NotFound, text).WithDetails(detail)
	if err != nil {
		return "", err
	}
	var trailers metadata.MD
	got := status.Convert(conn.Invoke(ctx, "/wire.Wire/Fail", wanted.Proto(), new(message), grpc.Trailer(&trailers)))
	if !proto.Equal(got.Proto(), wanted.Proto()) {
		return "", fmt.Errorf("Fail: %v instead of %v", got.Proto(), wanted.Proto())
	}
	if end := trailers.Get("x-trail"); len(end) != 1 || end[0] != "end" {
		return "", fmt.Errorf("Fail: trailers %v", trailers)
	}
	return "a status with details", nil
}

// A deadline ends the call here, and at the server, too.
func deadline(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	if err := at(10, 10, func(int) error {
		short, stop := context.WithTimeout(ctx, time.Second/2)
		defer stop()
		if err := conn.Invoke(short, "/wire.Wire/Late", random(1), new(message)); status.Code(err) != codes.DeadlineExceeded {
			return fmt.Errorf("Late: %w", err)
		}
		return nil
	}); err != nil {
		return "", err
	}
	return "10 deadlines, which the server notices", conn.Invoke(ctx, "/wire.Wire/None", random(1), new(message))
}

func cancel(conn *grpc.ClientConn) (string, error) {
	ctx, stop := within()
	defer stop()
	if err := at(20, 200, func(int) error {
		ours, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := conn.NewStream(ours, &grpc.StreamDesc{ServerStreams: true}, "/wire.Wire/Wait")
		if err != nil {
			return err
		}
		if err := errors.Join(stream.SendMsg(random(1)), stream.CloseSend(), stream.RecvMsg(new(message))); err != nil {
			return fmt.Errorf("Wait: %w", err)
		}
		cancel()
		if err := stream.RecvMsg(new(message)); status.Code(err) != codes.Canceled {
			return fmt.Errorf("Wait, cancelled: %w", err)
		}
		return nil
	}); err != nil {
		return "", err
	}
	return "200 cancelled streams, which the server notices", conn.Invoke(ctx, "/wire.Wire/None", random(1), new(message))
}

func manyBoth(conn *grpc.ClientConn) (string, error) {
	return "1000 streams of 20 messages both ways, 10 at once", at(10, 1000, func(number int) error {
		return both(conn, 20, number)
	})
}

func longBoth(conn *grpc.ClientConn) (string, error) {
	return "2 streams of 500 messages of 1 MiB both ways", at(2, 2, func(int) error { return both(conn, 500, mebibyte) })
}

// both sends while it receives, and looks at what comes before and after the messages.
func both(conn *grpc.ClientConn, count, size int) error {
	ctx, stop := within()
	defer stop()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/wire.Wire/Both")
	if err != nil {
		return err
	}
	sent := random(size)
	go func() {
		for range count {
			// What went wrong RecvMsg says.
			if stream.SendMsg(sent) != nil {
				return
			}
		}
		stream.CloseSend()
	}()
	for received := 0; ; received++ {
		got := new(message)
		err := stream.RecvMsg(got)
		if err == io.EOF && received == count {
			break
		}
		if err != nil {
			return fmt.Errorf("Both: %w after %d messages of %d bytes", err, received, size)
		}
		if err := same(sent, got); err != nil {
			return err
		}
	}
	head, err := stream.Header()
	if err != nil {
		return err
	}
	begin, end, bits := head.Get("x-head"), stream.Trailer().Get("x-trail"), stream.Trailer().Get("x-trail-bin")
	if len(begin) != 1 || begin[0] != "begin" || len(end) != 1 || end[0] != "end" || len(bits) != 1 || bits[0] != "\x00\xff" {
		return fmt.Errorf("Both: %v before and %v after", head, stream.Trailer())
	}
	return nil
}
