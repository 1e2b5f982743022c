// An upstream that counts what it was asked: net/http of Go.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// What a path is to http.FileServer, and the pattern that http.ServeMux finds for it.
func resolved(r *http.Request) []string {
	_, pattern := mux.Handler(r)
	file := url.URL{Path: path.Clean("/" + r.URL.Path)}
	return []string{file.EscapedPath(), pattern}
}

var mux = http.NewServeMux()

func main() {
	for _, pattern := range []string{"/", "/protected", "/protected/"} {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	var lock sync.Mutex
	var targets []string
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/seen" {
			lock.Lock()
			defer lock.Unlock()
			fmt.Fprint(w, strings.Join(targets, "\n"))
			return
		}
		if r.RequestURI == "/slow" {
			time.Sleep(100 * time.Millisecond)
			// Bodies that nobody has read end the connection in any case; this says so.
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, strings.Repeat("x", 100))
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		lock.Lock()
		targets = append(targets, r.RequestURI)
		lock.Unlock()
		w.Header().Set("X-Upstream", "go")
		w.Header().Set("X-Target", r.RequestURI)
		w.Header().Set("X-Resolved", strings.Join(resolved(r), ", "))
		fmt.Fprint(w, "ok")
	}
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handler)); err != nil {
		panic(err)
	}
}
