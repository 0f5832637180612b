// A page that was opened from the disk may start no worker, which the search of the theme is.
// There the worker's script runs in a hidden frame, and messages go to and from it as events.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.early = [];
      this.frame.addEventListener("answer", event =>
        this.dispatchEvent(new MessageEvent("message", { data: event.detail })));
      document.body.append(this.frame);
      const inner = this.frame.contentWindow;
      this.frame.addEventListener("load", () => {
        this.early.forEach(data => this.tell(data));
        this.early = null;
      });
      inner.document.open();
      inner.document.write(`<script>
        postMessage = data =>
          frameElement.dispatchEvent(new CustomEvent("answer", { detail: data }));
      <\/script><script src="${address}"><\/script>`);
      inner.document.close();
    }
    postMessage(data) {
      this.early ? this.early.push(data) : this.tell(data);
    }
    tell(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
