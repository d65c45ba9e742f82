// A click on a shortened hash copies the whole one.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
  } else {  // over plain HTTP browsers offer this alone
    const field = button.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  document.getElementById("said").textContent = `Copied ${text}`;
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
});
